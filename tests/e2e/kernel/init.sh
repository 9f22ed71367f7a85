#!/bin/busybox sh
# The first process of the guest: its root is the machine's, read only, with its own changes in memory above it.
set -e
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
while read -r module; do busybox insmod "/modules/$module.ko"; done </modules/order
busybox mount -t virtiofs -o ro machine /machine
busybox mount -t tmpfs changes /changes
busybox mkdir /changes/upper /changes/work
busybox mount -t overlay -o lowerdir=/machine,upperdir=/changes/upper,workdir=/changes/work root /root
for folder in proc sys dev; do busybox mount --move "/$folder" "/root/$folder"; done
busybox mount -t tmpfs run /root/run
busybox cp /tests.sh /root/run/tests.sh
exec busybox switch_root /root /usr/bin/busybox sh /run/tests.sh
