# what regcomp does not take; a lone closing parenthesis it does
. "$LIB"
touch f
for pattern in '(' ')' '[' 'a{' '*' '+a' 'a|*b' '\' '[[:nope:]]' 'a{2,1}' '[z-a]'; do
  run $INOTIFYWAIT --exclude "$pattern" -t 1 f
  run $INOTIFYWAIT --includei "$pattern" -t 1 f
done
run $INOTIFYWAIT --excludei '(' f
run $INOTIFYWAIT --include '(' f
run $INOTIFYWATCH --exclude '(' f
run $INOTIFYWATCH --includei '(' f
