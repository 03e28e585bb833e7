# options without their argument
. "$LIB"
for option in -t -e -o --timeout --event --exclude --excludei --include --includei --format --timefmt --fromfile --outfile
do run $INOTIFYWAIT $option
done
for option in -t -e -a -d --ascending --descending --fromfile; do run $INOTIFYWATCH $option; done
