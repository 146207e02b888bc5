--! The replication slot, PostgreSQL 14 to 16. pg2os makes it by itself; make it by hand where its start is to be now (it holds WAL
--! back from now on). Run in the database that is followed, after the publication was made; then again for the bookmark:
--! psql -v slot=pg2os -f sql/03_slot.sql;  psql -v slot=pg2os_bookmark -f sql/03_slot.sql
--! Under Patroni declare both as permanent slots instead (k8s/overlays/zalando), or it drops them.
SELECT slot_name, lsn FROM pg_catalog.pg_create_logical_replication_slot(:'slot', 'pgoutput');
