# Read by the image's entry point, once. Base backups come over a connection for replication, which needs a line of its own.
echo "host replication all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
# In the file and not on the command line: while a recovery replays, the server runs with the file alone, and what it does not know to be archived
# never is. cdc-drill is not in this image: it takes the segments out of the repository's spool.
cat >>"$PGDATA/postgresql.conf" <<'SETTINGS'
wal_level = logical
max_slot_wal_keep_size = 256MB
shared_buffers = 64MB
archive_mode = on
archive_timeout = 60
archive_command = 'S=/backup/shop/spool; test ! -f $S/%f && cp %p $S/.%f && sync $S/.%f && mv $S/.%f $S/%f && sync $S'
SETTINGS
psql -v ON_ERROR_STOP=1 -U postgres -d postgres -c 'create database shop'
psql -v ON_ERROR_STOP=1 -U postgres -d shop -f /docker-entrypoint-initdb.d/sql/shop.sql
