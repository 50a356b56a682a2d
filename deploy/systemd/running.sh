#!/bin/sh
# running.sh UNIT: exits 0 when the unit runs, 1 when it is down, and 2 when nobody knows.
state=$(systemctl show --property=LoadState --property=ActiveState "$1") || exit 2
case $state in
*LoadState=loaded* | *LoadState=masked*) ;;
*)
    echo "no such unit: $1" >&2
    exit 2
    ;;
esac
# One that starts or stops is not down.
case $state in
*ActiveState=inactive* | *ActiveState=failed*) exit 1 ;;
*ActiveState=*) exit 0 ;;
*) exit 2 ;;
esac
