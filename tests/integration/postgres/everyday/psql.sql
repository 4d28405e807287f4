\echo # a day with psql: its output is compared, with what it is asked
\pset pager off
\set VERBOSITY default
CREATE TABLE customers (id serial PRIMARY KEY, name text NOT NULL UNIQUE, credit numeric(10, 2) DEFAULT 0 CHECK (credit >= 0));
CREATE TABLE orders (
    id serial PRIMARY KEY, customer int NOT NULL REFERENCES customers ON DELETE CASCADE,
    amount numeric(10, 2), placed date DEFAULT '2026-03-01', note text);
CREATE INDEX orders_by_customer ON orders (customer) INCLUDE (amount);
CREATE VIEW spent AS SELECT customer, sum(amount) AS total FROM orders GROUP BY customer;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE SCHEMA archive;
CREATE TABLE archive.orders (LIKE public.orders INCLUDING ALL);
COMMENT ON TABLE customers IS 'who buys';

\echo # looking round
\d
\d customers
\d+ orders
\dt *.orders
\dv
\di
\ds
\dT
\dD
\dn archive
\df spent
\sv spent
\dd customers
\l everyday

\echo # writing
INSERT INTO customers (name) SELECT 'customer ' || n FROM generate_series(1, 20) n;
INSERT INTO orders (customer, amount, note)
    SELECT 1 + n % 20, n / 10.0, CASE WHEN n % 3 = 0 THEN NULL ELSE 'note ' || n END FROM generate_series(1, 500) n;
UPDATE customers SET credit = credit + 5 WHERE id < 4 RETURNING *;
INSERT INTO customers (name) VALUES ('customer 1') ON CONFLICT (name) DO UPDATE SET credit = 77 RETURNING id, credit;
DELETE FROM orders WHERE id > 498 RETURNING id, amount;
MERGE INTO customers USING (VALUES ('customer 2', 9), ('fresh', 3)) AS new (name, credit) ON customers.name = new.name
    WHEN MATCHED THEN UPDATE SET credit = new.credit WHEN NOT MATCHED THEN INSERT (name, credit) VALUES (new.name, new.credit);
TABLE spent ORDER BY total DESC LIMIT 3;
WITH moved AS (DELETE FROM orders WHERE id <= 10 RETURNING *) INSERT INTO archive.orders SELECT * FROM moved;
SELECT customer, amount, rank() OVER (PARTITION BY customer ORDER BY amount DESC) FROM orders WHERE customer < 3 ORDER BY 1, 3 LIMIT 5;
SELECT 1 AS one \; SELECT 2 AS two \; SELECT 3 AS three;
VALUES (1, 'a'), (2, NULL);
TRUNCATE archive.orders RESTART IDENTITY;

\echo # how it is shown
\x on
SELECT * FROM customers WHERE id = 1;
\x off
\pset null '(none)'
\pset format csv
SELECT id, note FROM orders WHERE id BETWEEN 12 AND 15 ORDER BY id;
\pset format unaligned
\pset tuples_only on
SELECT id, note FROM orders WHERE id BETWEEN 12 AND 15 ORDER BY id;
\pset format aligned
\pset tuples_only off
\pset border 2
SELECT id, note FROM orders WHERE id BETWEEN 12 AND 15 ORDER BY id \g (format=html)
SELECT id % 2 AS odd, customer, count(*) FROM orders WHERE customer < 4 GROUP BY 1, 2 ORDER BY 1, 2 \crosstabview
SELECT 1 AS a, 'x' AS b, 1.5 AS c, now() AS d \gdesc
SELECT 'SELECT ' || n || ' AS of_gexec' FROM generate_series(1, 3) n \gexec
SELECT count(*) AS customers, max(name) AS last FROM customers \gset
\echo :customers :'last'
SELECT :customers + 1 AS next, :'last' AS quoted, :"customers" FROM (SELECT 5 AS "21") t;
\if :{?customers}
    \echo there are
\else
    \echo there are none
\endif
SELECT n FROM generate_series(1, 1000) n \g | tail -n 3
\pset border 1
\set FETCH_COUNT 100
SELECT count(*) FROM (SELECT 1 FROM orders) o;
SELECT n, repeat('x', n % 7) FROM generate_series(1, 250) n;
\unset FETCH_COUNT

\echo # transactions
BEGIN;
INSERT INTO customers (name) VALUES ('not for long');
SAVEPOINT before;
INSERT INTO customers (name) VALUES ('customer 5');
ROLLBACK TO before;
SELECT count(*) FROM customers;
ROLLBACK;
SELECT count(*) FROM customers;
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT 1/0;
SELECT 'still here';
COMMIT;
\unset ON_ERROR_ROLLBACK
\set AUTOCOMMIT off
INSERT INTO customers (name) VALUES ('one more');
ROLLBACK;
\set AUTOCOMMIT on
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SHOW transaction_isolation;
DELETE FROM orders;
SELECT 1;
COMMIT;
COMMIT;
START TRANSACTION;
SET LOCAL work_mem = '9MB';
SHOW work_mem;
COMMIT AND CHAIN;
SHOW work_mem;
ROLLBACK;

\echo # errors
SELEC 1;
SELECT nothing FROM customers;
SELECT * FROM nowhere;
INSERT INTO orders (customer) VALUES (999);
UPDATE customers SET credit = -1;
SELECT 'x'::positive;
SELECT (-1)::positive;
SELECT 'furious'::mood;
\set VERBOSITY verbose
SELECT 1/0;
\set VERBOSITY sqlstate
SELECT 1/0;
\set VERBOSITY terse
SELECT sqrt(-1);
\set VERBOSITY default
\errverbose
\echo :SQLSTATE :LAST_ERROR_MESSAGE :ERROR :ROW_COUNT
SELECT 1; SELECT 1/0; SELECT 2;
DO $$ BEGIN RAISE NOTICE 'a notice'; RAISE WARNING 'a warning' USING HINT = 'a hint'; RAISE EXCEPTION 'an end'; END $$;
SET client_min_messages = error;
DO $$ BEGIN RAISE NOTICE 'not heard'; END $$;
RESET client_min_messages;

\echo # copying
CREATE TABLE copied (n int, v text);
\copy copied FROM STDIN
1	a
2	\N
3	tab\there
\.
\copy copied (n, v) FROM STDIN (FORMAT csv)
4,"quoted, ""twice"""
5,
\.
COPY copied FROM STDIN;
6	six
\.
\copy copied FROM STDIN
7	seven
eight	no number
\.
\copy copied FROM PROGRAM 'seq -f "%.0f	line" 100 1100'
\copy (SELECT * FROM copied WHERE n < 10 ORDER BY n) TO STDOUT (FORMAT csv, HEADER)
COPY (SELECT count(*), sum(n) FROM copied) TO STDOUT;
\copy copied TO PROGRAM 'wc -lc'
\copy copied FROM '/nowhere/at/all'
\copy nowhere FROM STDIN
COPY copied TO STDOUT \g /dev/null

\echo # of the session
SET TimeZone = 'Asia/Tokyo';
SET DateStyle = 'German';
SET search_path = archive, public;
SELECT '2026-03-01T12:00Z'::timestamptz, count(*) FROM orders;
SHOW search_path;
SELECT set_config('my.setting', 'mine', false);
SELECT current_setting('my.setting'), current_schemas(false);
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;
CREATE TABLE refused ();
SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE;
\encoding LATIN1
SELECT length('x'), current_setting('client_encoding');
\encoding UTF8
SET ROLE pg_monitor;
SELECT current_user, session_user;
RESET ROLE;
RESET ALL;
SELECT '2026-03-01T12:00Z'::timestamptz, current_setting('search_path'), current_setting('my.setting', true) IS NULL;
CREATE TEMP TABLE mine (id int PRIMARY KEY, v text) ON COMMIT PRESERVE ROWS;
INSERT INTO mine SELECT g, repeat('x', g) FROM generate_series(1, 5) g;
SELECT * FROM mine;
CREATE TEMP TABLE brief (n int) ON COMMIT DROP;
SELECT * FROM brief;
PREPARE plan (int) AS SELECT name FROM customers WHERE id = $1;
EXECUTE plan (3);
EXECUTE plan (4);
SELECT name, parameter_types FROM pg_prepared_statements WHERE name = 'plan';
DEALLOCATE plan;
EXECUTE plan (5);
BEGIN;
DECLARE walks SCROLL CURSOR WITH HOLD FOR SELECT n FROM generate_series(1, 100) n;
FETCH 3 FROM walks;
COMMIT;
FETCH ABSOLUTE 50 FROM walks;
FETCH BACKWARD 2 FROM walks;
MOVE LAST IN walks;
CLOSE walks;
LISTEN news;
NOTIFY news, 'payload';
SELECT pg_notify('news', 'again');
UNLISTEN *;
NOTIFY news, 'nobody hears';
SELECT pg_try_advisory_lock(4711), pg_try_advisory_lock(4711);
SELECT pg_advisory_unlock(4711), pg_advisory_unlock(4711), pg_advisory_unlock(4711);
SELECT setseed(0.5);
SELECT round(random()::numeric, 6), nextval('orders_id_seq') > 0, currval('orders_id_seq') = lastval();
DISCARD ALL;
SELECT * FROM mine;

\echo # keeping house
VACUUM (ANALYZE) customers;
ANALYZE orders;
REINDEX TABLE CONCURRENTLY orders;
CREATE INDEX CONCURRENTLY customers_by_credit ON customers (credit);
CLUSTER customers USING customers_pkey;
EXPLAIN (COSTS OFF) SELECT generate_series(1, 3);
GRANT SELECT ON customers TO PUBLIC;
\dp customers
ALTER TABLE customers ADD COLUMN mood mood DEFAULT 'ok';
SELECT mood, count(*) FROM customers GROUP BY mood;
CHECKPOINT;
SET statement_timeout = '50ms';
SELECT pg_sleep(20);
RESET statement_timeout;
SELECT lo_from_bytea(0, 'large') AS number \gset
SELECT lo_get(:number), lo_unlink(:number);
\set QUIET on
\lo_import /etc/hostname 'a file'
SELECT count(*) FROM pg_largeobject_metadata;
\lo_unlink :LASTOID
\set QUIET off
\c
SELECT count(*) FROM customers;
\c - trusting
SELECT current_user;
SELECT count(*) FROM customers;
SELECT count(*) FROM orders;
DROP TABLE orders;
\c - postgres
DROP SCHEMA archive CASCADE;
DROP TABLE orders, customers, copied CASCADE;
DROP TYPE mood;
DROP DOMAIN positive;
\d
\echo # the end
