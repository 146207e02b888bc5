--! The publication of tables without a replica identity (append_only): inserts alone, so that the application's own UPDATE
--! and DELETE go on working. Run as the owner of the tables with CREATE on the database, before the slot is made:
--! psql -v publication=pg2os_append -v tables='ONLY public.audit_log' -f sql/02_publication_append.sql
CREATE PUBLICATION :"publication" FOR TABLE :tables
  WITH (publish = 'insert, truncate', publish_via_partition_root = true);
