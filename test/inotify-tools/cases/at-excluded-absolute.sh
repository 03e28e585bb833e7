# an absolute tree needs an absolute exclusion
. "$LIB"
mkdir -p d/s d/u
start $INOTIFYWAIT -mr -e create "$PWD/d" "@$PWD/d/s" @d/u
touch d/s/a d/u/b d/end
expect 2
finish
