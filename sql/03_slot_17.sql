--! The same from PostgreSQL 17 on, with `failover`: standbys with sync_replication_slots keep a copy that survives a failover.
--! psql -v slot=pg2os -f sql/03_slot_17.sql;  psql -v slot=pg2os_bookmark -f sql/03_slot_17.sql
SELECT slot_name, lsn FROM pg_catalog.pg_create_logical_replication_slot(:'slot', 'pgoutput', failover => true);
