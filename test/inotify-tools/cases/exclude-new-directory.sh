# an excluded new directory is not watched, an excluded old one is
. "$LIB"
mkdir -p d/hidden-old
start $INOTIFYWAIT -mr -e create --exclude 'hidden[^/]*$' d
mkdir d/hidden-new d/shown
watches 3
touch d/hidden-old/a d/hidden-new/b d/shown/c
expect 3
finish
