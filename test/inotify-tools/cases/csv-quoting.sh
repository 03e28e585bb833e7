# what is quoted: quotes, commas, newlines, blanks at an end
. "$LIB"
mkdir d 'd/q"q' 'd/co,mma' 'd/sp ace'
start $INOTIFYWAIT -mr --csv -e create d
touch 'd/q"q/"' 'd/co,mma/,' 'd/sp ace/a b' 'd/ a' 'd/a ' 'd/n
l' 'd/t	b' "d/'" 'd/a;b' 'd/-x' 'd/\'
touch "$(printf 'd/cr\rx')" "$(printf 'd/\377\376')" 'd/""'
expect 15
finish
