--! The publication that pg2os streams. Run as the owner of the tables with CREATE on the database, before the slot is made:
--! psql -v publication=pg2os -v tables='public.events, public.users' -f sql/02_publication.sql
CREATE PUBLICATION :"publication" FOR TABLE :tables
  WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);
