# twins, mixtures and malformed patterns against the other checks
. "$LIB"
touch f
for options in '-d' '-c --format x' '--no-newline' '--include c' '--fromfile nofile'; do
  run $INOTIFYWAIT --exclude a --excludei b $options f
done
run $INOTIFYWAIT --include '(' --includei b -d f
run $INOTIFYWAIT --timefmt x -d f
run $INOTIFYWAIT --format %T -d f
run $INOTIFYWATCH --exclude a --excludei b --include c f
run $INOTIFYWATCH --exclude a --excludei b -a open -e modify f
run $INOTIFYWATCH --exclude a --include b --fromfile nofile f
