--! The role that pg2os connects as. Run in the database that is followed, as a superuser:
--! psql -v role=pg2os -v database=shop -v schemas=public -v tables='public.events, public.users' -f sql/01_role.sql
CREATE ROLE :"role" LOGIN REPLICATION;
GRANT CONNECT ON DATABASE :"database" TO :"role";
GRANT USAGE ON SCHEMA :schemas TO :"role";
GRANT SELECT ON TABLE :tables TO :"role";
