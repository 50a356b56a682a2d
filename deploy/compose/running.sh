#!/bin/sh
# running.sh PROJECT FILE SERVICE: exits 0 when the service's container runs, 1 when it is down, and 2 when nobody knows.
id=$(docker compose -p "$1" -f "$2" ps --all --quiet "$3") || exit 2
if [ -z "$id" ]; then
    echo "project $1 has no container of service $3: made by \`docker compose up\`, it is stopped and started" >&2
    exit 2
fi
state=$(docker inspect --format '{{.State.Status}}' "$id") || exit 2
case $state in
created | exited | dead) exit 1 ;;
# One that is paused holds its files open, and one that restarts will be back.
running | paused | restarting | removing) exit 0 ;;
*)
    echo "container $id: unknown state $state" >&2
    exit 2
    ;;
esac
