# empty, a lone percent, a trailing percent, backslashes
. "$LIB"
mkdir d
for format in '' '%' 'abc%' '%e%' '%%' '\n\t\\' 'a\' '\%e' 'x' ' ' '%%%%'; do
  start $INOTIFYWAIT --format "$format" -e attrib d
  touch d/a
  ends
done
