# %Xe: the names with X between; X is any one byte
. "$LIB"
mkdir d
for format in '%:e' '% e' '%,e' '%\e' '%.e' '%-e' '%|e' '%::e' '%ée' '%1e' '%Ee' '%	e'; do
  start $INOTIFYWAIT --format "$format" -e close d
  touch d/a
  ends
done
