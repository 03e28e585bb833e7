# a tree deeper than a path may be long
. "$LIB"
perl -e 'for (1 .. 18) { mkdir $ARGV[0]; chdir $ARGV[0] }' "$(repeat 250 n)"
mv "$(repeat 250 n)" deep
run $INOTIFYWAIT -r -t 1 deep
run $INOTIFYWATCH -r -t 1 deep
rm -r deep
