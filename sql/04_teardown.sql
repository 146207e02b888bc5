--! Everything that was made for pg2os goes. Stop pg2os first; run as a superuser in the database that was followed:
--! psql -v slot=pg2os -v bookmark=pg2os_bookmark -v publication=pg2os -v role=pg2os -f sql/04_teardown.sql
SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots
 WHERE slot_name IN (:'slot', :'bookmark');
DROP PUBLICATION IF EXISTS :"publication";
DROP OWNED BY :"role";
DROP ROLE :"role";
