--! More tables into the publication. Run as its owner, who owns the tables too:
--! psql -v publication=pg2os -v tables='public.orders' -f sql/02_publication_add.sql
ALTER PUBLICATION :"publication" ADD TABLE :tables;
