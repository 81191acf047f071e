-- The roles and the database of Agora, in a new PostgreSQL. `agora_owner` owns the database and its tables and runs
-- `agora migrate`; `agora` reads and writes rows, and can change no table. PostgreSQL's image runs this file once, when
-- it initialises; docs/operating.md has the command for elsewhere, with the folder of both passwords in SECRETS.
\set ON_ERROR_STOP on
\set owner_password `cat "${SECRETS:-/run/secrets}/db_owner_password"`
\set password `cat "${SECRETS:-/run/secrets}/db_password"`
-- Otherwise PostgreSQL would create roles that have no password, with a notice only.
SELECT '' IN (:'owner_password', :'password') AS is_missing \gset
\if :is_missing
    DO $$ BEGIN
        RAISE 'a password is missing: make db_owner_password and db_password in the folder SECRETS readable to psql';
    END $$;
\endif

CREATE ROLE agora_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE agora LOGIN PASSWORD :'password';
CREATE DATABASE agora OWNER agora_owner;
REVOKE ALL ON DATABASE agora FROM PUBLIC;
GRANT CONNECT ON DATABASE agora TO agora;

\connect agora
ALTER DEFAULT PRIVILEGES FOR ROLE agora_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO agora;
ALTER DEFAULT PRIVILEGES FOR ROLE agora_owner IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO agora;
