-- The roles and the database of Agora, in a new PostgreSQL. `agora_owner` owns the database and its tables and runs
-- `agora migrate`; `agora` reads and writes rows, and can change no table. PostgreSQL's image runs this file once, when it
-- initialises; elsewhere: SECRETS=/folder psql --username=postgres --file=roles.sql
\set ON_ERROR_STOP on
\set owner_password `cat "${SECRETS:-/run/secrets}/db_owner_password"`
\set password `cat "${SECRETS:-/run/secrets}/db_password"`

CREATE ROLE agora_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE agora LOGIN PASSWORD :'password';
CREATE DATABASE agora OWNER agora_owner;
REVOKE ALL ON DATABASE agora FROM PUBLIC;
GRANT CONNECT ON DATABASE agora TO agora;

\connect agora
ALTER DEFAULT PRIVILEGES FOR ROLE agora_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO agora;
ALTER DEFAULT PRIVILEGES FOR ROLE agora_owner IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO agora;
