# numbers wider than their heading
. "$LIB"
mkdir d
touch d/a d/b
start $INOTIFYWATCH -e open d
perl -e 'for (1 .. 6000) { for my $name ("d/a", "d/b") { open my $file, "<", $name } }'
finish
