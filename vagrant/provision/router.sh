#!/bin/sh
# A router: BIRD 2 with the file that bears its name. Usage, as root: router.sh r0|r1|r2|r3
set -eu
name=$1
export DEBIAN_FRONTEND=noninteractive
apt-get install --yes --quiet --no-install-recommends bird2

echo 'net.ipv4.ip_forward = 1' >/etc/sysctl.d/61-exazk-router.conf
sysctl --quiet --load /etc/sysctl.d/61-exazk-router.conf

# Debian runs BIRD as the user bird, which has to read it.
install --owner=root --group=bird --mode=0640 "/exazk/vagrant/bird/$name.conf" /etc/bird/bird.conf
systemctl enable --quiet bird.service
systemctl restart bird.service
