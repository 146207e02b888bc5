--! The replication slot. Run in the database that is followed, after the publication was made (it holds WAL back from now on):
--! psql -v slot=pg2os -f sql/03_slot.sql
SELECT slot_name, lsn FROM pg_catalog.pg_create_logical_replication_slot(:'slot', 'pgoutput');
