# Read by the image's entry point, once. Base backups come over a connection for replication, which needs a line of its own.
echo "host replication all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
psql -v ON_ERROR_STOP=1 -U postgres -d postgres -c 'create database shop'
psql -v ON_ERROR_STOP=1 -U postgres -d shop -f /docker-entrypoint-initdb.d/sql/shop.sql
