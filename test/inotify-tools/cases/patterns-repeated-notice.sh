# a repeated exclude is announced, a repeated include is not
. "$LIB"
mkdir d
for option in --exclude --excludei --include --includei; do
  run $INOTIFYWAIT $option a $option b -t 1 d
  run $INOTIFYWATCH $option a $option b -t 1 d
done
run $INOTIFYWAIT -q --exclude '(' --exclude a --exclude b -t 1 d
