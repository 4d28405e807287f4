-- Money goes from one of the first fifty purses to one of the others; who is too late tries again.
\set source random(1, 50)
\set target 50 + random_zipfian(1, 50, 1.2)
\set amount random(1, 30)
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT balance AS had FROM purses WHERE id = :source \gset
\if :had >= :amount
    UPDATE purses SET balance = balance - :amount WHERE id = :source;
    UPDATE purses SET balance = balance + :amount WHERE id = :target;
    INSERT INTO moves (source, target, amount, client) VALUES (:source, :target, :amount, :client_id);
\else
    INSERT INTO refusals (source, note) VALUES (:source, 'too little: ' || :had);
\endif
COMMIT;
SELECT count(*) AS moves, coalesce(max(id), 0) AS last FROM moves WHERE client = :client_id \gset mine_
\set half :mine_moves / 2
SELECT sum(amount) FROM (SELECT amount FROM moves WHERE client = :client_id ORDER BY id LIMIT :half) AS firsts;
\if random(1, 4) = 1
    SELECT source, count(*), rank() OVER (ORDER BY count(*) DESC) FROM moves GROUP BY source LIMIT 5;
\endif
