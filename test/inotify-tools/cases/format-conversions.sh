# every conversion, in every place
. "$LIB"
mkdir d
touch d/a
for format in '%w|%f|%e|%T|%c|%%' '%x' '%xy%f' '%10w' '%q %f' '%%e' '%%w' '%%%' '%%%f' '%ww' '%wf' '%fe' '%Te' '%0e' '%ne' '%ce' '%ee' '%W%F%E'; do
  start $INOTIFYWAIT --timefmt now --format "$format" -e open d
  cat d/a
  ends
done
