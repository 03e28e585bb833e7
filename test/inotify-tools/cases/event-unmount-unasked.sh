# otherwise an unmount ends it silently, exit 1
. "$LIB"
in_mount_namespace
mkdir m
mount -t tmpfs none m
start $INOTIFYWAIT m
umount m
ends
mount -t tmpfs none m
mkdir m/d
start_quiet 2 $INOTIFYWAIT -q -r -e modify m
umount m
ends
