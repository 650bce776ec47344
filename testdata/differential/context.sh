# Makes the context of all cases in the current directory, and the tar of the base image's root file system.
set -eu
umask 022
mkdir -p root/bin root/etc root/tmp root/home/ann root/proc root/sys root/dev root/run root/var/lib root/data/sub
cp "$BUSYBOX" root/bin/busybox
for applet in sh cat echo mkdir rm ls ln chmod chown stat id env printf test pwd touch mv cp true false tr sort; do
  ln -s busybox "root/bin/$applet"
done
chmod 1777 root/tmp
printf 'root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001:Ann:/home/ann:/bin/sh\n' >root/etc/passwd
printf 'root:x:0:\nann:x:1001:\nstaff:x:50:ann\n' >root/etc/group
: >root/etc/hosts
: >root/etc/resolv.conf
: >root/etc/hostname
printf "old content" >root/data/file
printf kept >root/data/sub/kept
ln -s data root/datalink
ln -s /data/file root/filelink
chmod 700 root/home/ann
tar -C root --sort=name --numeric-owner --owner=0 --group=0 -cf base.tar .
rm -r root

printf one >one
printf two >two
printf 'three words here' >three.txt
printf four >four.txt
printf md >read.me
chmod 600 two
chmod 755 four.txt
mkdir -p dir/sub/deep dir/empty other 'sp ace' many/a/b many/c
printf d1 >dir/d1
printf d2 >dir/d2.log
printf s1 >dir/sub/s1
printf deep >dir/sub/deep/file.go
printf o >other/o
printf d1x >other/d1
printf blank >'sp ace/fi le'
printf x >many/a/x.txt
printf y >many/a/b/y.txt
printf z >many/c/z.txt
printf n >many/n.md
chmod 750 dir/sub
chmod 711 dir/empty
chown 12:34 dir/d1 dir/sub
ln -s d1 dir/link
ln -s /etc/passwd dir/absolute
ln -s nowhere dir/broken
ln -s ../one dir/up
ln -s dir dirlink
ln -s one filelink
ln one dir/hard
mkdir odd
printf bracket >'odd/o[1].txt'
printf star >'odd/o*.txt'
printf uni >ünïcode
printf log >a.log
printf log >keep.log
printf hidden >.hidden
mkfifo dir/sub/fifo
mkdir -p node_modules/p src/node_modules/q
printf p >node_modules/p/index
printf q >src/node_modules/q/index
printf main >src/main

mkdir -p pack/in/side pack/tmpdir
printf packed >pack/in/side/file
printf run >pack/in/run
chmod 750 pack/in/run
chmod 700 pack/in/side
ln -s side/file pack/in/link
tar -C pack --sort=name --mtime=@1000000000 --numeric-owner --owner=5 --group=6 -cf pack.tar in
gzip -nk pack.tar
bzip2 -k pack.tar
xz -k pack.tar
cp pack.tar looks.txt
printf 'no archive' >fake.tar.gz
printf 'compressed text' | gzip -n >text.gz
rm -r pack
