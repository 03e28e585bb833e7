# nothing is trimmed, nothing is a comment; a NUL ends a line
. "$LIB"
mkdir d
for line in 'd ' ' d' '#d' 'd\r' '-m' '~'; do
  printf '%b\n' "$line" >list
  run $INOTIFYWAIT --fromfile list
done
printf 'd\0x\n' >list
start $INOTIFYWAIT -m -e create --fromfile list
touch d/a
expect 1
finish
