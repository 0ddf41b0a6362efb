#!/bin/sh
# What every host needs, as root.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
apt-get install --yes --quiet --no-install-recommends curl tcpdump

# The load balancers reach ZooKeeper by this name.
grep -q '^192.168.66.10 zk$' /etc/hosts || echo '192.168.66.10 zk' >>/etc/hosts

# Not to judge packets by the way they came: after a change of path the way back may differ for a moment.
cat >/etc/sysctl.d/60-exazk.conf <<'END'
net.ipv4.conf.all.rp_filter = 0
net.ipv4.conf.default.rp_filter = 0
END
sysctl --quiet --load /etc/sysctl.d/60-exazk.conf
for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >"$file"; done

# Addresses and routes beside those of Vagrant's own network setup: the script is written by the host's role, the unit runs
# it at every boot. The default route is left to Vagrant's management network, so the nets of the lab get routes of their own.
cat >/etc/systemd/system/exazk-lab-net.service <<'END'
[Unit]
Description=Addresses and routes of the ExaZK demonstration network
Wants=network-online.target
After=network-online.target
Before=exabgp.service
ConditionPathExists=/usr/local/sbin/exazk-lab-net

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/exazk-lab-net

[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl enable --quiet exazk-lab-net.service
