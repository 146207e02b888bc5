--! What 01_grants.sql and 02_publication.sql made goes, under Zalando's operator: the slots and the role go with their lines in
--! the cluster's manifest. Stop pg2os first; run as the owner of schemas and tables:
--! psql -v role=pg2os -v publication=pg2os -v schemas=public -v tables='public.events, public.users' -f sql/04_teardown_grants.sql
DROP PUBLICATION IF EXISTS :"publication";
REVOKE SELECT ON TABLE :tables FROM :"role";
REVOKE USAGE ON SCHEMA :schemas FROM :"role";
