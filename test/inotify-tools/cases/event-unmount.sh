# unmount is printed when it was asked for
. "$LIB"
in_mount_namespace
mkdir m
for option in '-e unmount' '-m -e unmount' '-c -e unmount'; do
  mount -t tmpfs none m
  start $INOTIFYWAIT $option m
  umount m
  case $option in -m*) expect 1 && finish ;; *) ends ;; esac
done
