-- What doesn't hang on each other's answers, in one go.
\set a random(1, 100)
\startpipeline
SELECT balance FROM purses WHERE id = :a;
BEGIN;
SELECT count(*) FROM moves WHERE source = :a OR target = :a;
INSERT INTO refusals (source, note) VALUES (:a, 'piped');
COMMIT;
SELECT 1;
\endpipeline
