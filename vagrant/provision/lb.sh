#!/bin/sh
# A load balancer: ExaBGP, exazk, the VIPs and a web server behind them. Usage, as root: lb.sh lb1|lb2|lb3
set -eu
name=$1
node=${name#lb}
export DEBIAN_FRONTEND=noninteractive

for program in /exazk/exazk /exazk/bin/web; do
	if [ ! -x "$program" ]; then
		echo "$program is missing: build it first (see vagrant/Vagrantfile), then run \"vagrant rsync $name\"" >&2
		exit 1
	fi
done
apt-get install --yes --quiet --no-install-recommends exabgp procps

case $node in
1) leaf=172.16.1.6 ;;
2) leaf=172.16.1.14 ;;
3) leaf=172.16.1.22 ;;
esac
cat >/usr/local/sbin/exazk-lab-net <<END
#!/bin/sh
# The VIPs, on loopback: they are this host's own addresses, whether announced or not. Replies leave by the leaf.
set -eu
for vip in 10.20.255.1 10.20.255.2 10.20.255.3; do ip address replace \$vip/32 dev lo; done
ip route replace 172.16.0.0/16 via $leaf
END
chmod 755 /usr/local/sbin/exazk-lab-net
systemctl restart exazk-lab-net.service

install --mode=0755 /exazk/bin/web /usr/local/bin/web
cat >/etc/systemd/system/exazk-web.service <<END
[Unit]
Description=Web server that answers with the name of this load balancer

[Service]
ExecStart=/usr/local/bin/web -name $name -listen :80 -udp :7
DynamicUser=yes
AmbientCapabilities=CAP_NET_BIND_SERVICE
Restart=always

[Install]
WantedBy=multi-user.target
END

# A running program cannot be overwritten, but replaced.
install --mode=0755 /exazk/exazk /usr/local/bin/exazk.new
mv /usr/local/bin/exazk.new /usr/local/bin/exazk
install --mode=0755 /exazk/configs/check_local_nginx.sh /usr/local/bin/check_local_nginx.sh
install -D --mode=0644 "/exazk/configs/apex-node$node.toml" "/etc/exazk/apex-node$node.toml"
install -D --mode=0644 "/exazk/configs/exabgp-node$node.conf" /etc/exabgp/exabgp.conf
install -D --mode=0644 /exazk/configs/exabgp.service.d/exazk.conf /etc/systemd/system/exabgp.service.d/exazk.conf

systemctl daemon-reload
systemctl enable --quiet exazk-web.service exabgp.service
systemctl restart exazk-web.service
systemctl restart exabgp.service
