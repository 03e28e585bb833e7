# patterns are searched in the whole path
. "$LIB"
mkdir -p d/s
touch d/a.log
for pattern in '\.log$' '^d/s' '^d/s/$' '/s/' 'd/s/x|c\.txt' '^a' '(a|b)\.log' '[[:upper:]]' '[^a-z./]' '^d' 'd/..' 'a{2}' '^d/[ab]+\.' '\bb\b' '\w+\.txt' '(.)\1'; do
  start $INOTIFYWAIT -m -r -e create --exclude "$pattern" d
  mkdir end
  hold
  touch d/b.log d/B.LOG d/c.txt d/aa d/s/x d/s/a.log
  release
  finish
  rm -r d/b.log d/B.LOG d/c.txt d/aa d/s/x d/s/a.log end
done
