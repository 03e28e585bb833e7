# one of each kind
. "$LIB"
mkdir d e
touch e/f
start $INOTIFYWATCH d e/f
echo x >d/a
cat d/a
chmod 700 d/a
mv d/a d/b
rm d/b
mv d d2
mv e/f e/g
rm e/g
rmdir d2
finish
