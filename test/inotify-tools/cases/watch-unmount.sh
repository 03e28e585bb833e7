# an unmounted watch counts
. "$LIB"
in_mount_namespace
mkdir m d
for option in '' '-e unmount' '-z -e unmount,create'; do
  mount -t tmpfs none m
  start $INOTIFYWATCH $option m d
  touch m/a
  umount m
  finish
done
