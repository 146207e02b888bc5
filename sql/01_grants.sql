--! The grants alone, for a role that is there already (Zalando's operator makes it). Run in the database that is followed, as
--! the owner of schemas and tables:
--! psql -v role=pg2os -v schemas=public -v tables='public.events, public.users' -f sql/01_grants.sql
GRANT USAGE ON SCHEMA :schemas TO :"role";
GRANT SELECT ON TABLE :tables TO :"role";
