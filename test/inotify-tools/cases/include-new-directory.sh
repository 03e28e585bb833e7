# a new directory that is not included is not watched; an old one is
. "$LIB"
mkdir -p d/old
start $INOTIFYWAIT -mr -e create --include 'new|log$' d
mkdir d/new d/other
watches 3
touch d/old/1.log d/new/2 d/other/3.log d/4.log
expect 4
finish
