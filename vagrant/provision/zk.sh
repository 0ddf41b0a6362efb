#!/bin/sh
# ZooKeeper, one server. Java is started directly: the scripts of Debian's package leave out the jar without which the
# server logs nothing.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get install --yes --quiet --no-install-recommends zookeeper libslf4j-java default-jre-headless

install -d /etc/exazk-zookeeper
cat >/etc/exazk-zookeeper/zoo.cfg <<'END'
# Milliseconds. The server expires sessions on a multiple of it, so it is a part of every failover of a crashed host. It
# grants session timeouts of 2 to 20 of these unless told otherwise.
tickTime=100
maxSessionTimeout=40000
dataDir=/var/lib/exazk-zookeeper/data
clientPort=2181
clientPortAddress=192.168.66.10
admin.enableServer=false
4lw.commands.whitelist=srvr,ruok,mntr
END
cat >/etc/systemd/system/exazk-zookeeper.service <<'END'
[Unit]
Description=ZooKeeper of the ExaZK demonstration network
Wants=network-online.target
After=network-online.target

[Service]
DynamicUser=yes
StateDirectory=exazk-zookeeper
ExecStart=/usr/bin/java -Xms16m -Xmx128m -XX:+UseSerialGC -cp /usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar \
	org.apache.zookeeper.server.quorum.QuorumPeerMain /etc/exazk-zookeeper/zoo.cfg
# Java exits with 128+15 on SIGTERM.
SuccessExitStatus=143
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl enable --quiet exazk-zookeeper.service
systemctl restart exazk-zookeeper.service
