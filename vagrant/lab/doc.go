// Package lab builds the demonstration network of ExaZK out of network namespaces, on one Linux machine and within a few
// seconds: three load balancers behind a leaf each, a spine, a ZooKeeper server and a client. The daemons are the real ones
// (BIRD 2, ExaBGP, ZooKeeper, exazk), and they read the same files as the virtual machines of the Vagrantfile beside this
// package.
//
//	                  client .1
//	                     |        172.16.2.0/29
//	                     | .6
//	                    r0                       spine, AS 65000
//	           .6 /     .14 |     \ .22
//	172.16.0.0/29 /    .8/29 |      \ .16/29
//	           .5 /     .13 |     \ .21
//	            r1          r2         r3        leaves, AS 65001..65003
//	           .6 |     .14 |     .22 |
//	172.16.1.0/29 |    .8/29 |   .16/29 |
//	           .1 |      .9 |     .17 |
//	           lb1         lb2        lb3        exazk, AS 65101..65103
//	           .1 |      .2 |      .3 |
//	      --------+---------+---------+------+-- management, 192.168.66.0/24
//	                                         | .10
//	                                         zk
//
// With Options.ZKServers = 3, an ensemble of zk1 .11, zk2 .12 and zk3 .13 takes the place of zk.
//
// Each lbN owns the VIP 10.20.255.N and backs the others up; all three VIPs are on the loopback interface of each. Port 80
// of a VIP answers with the name of the load balancer that was reached, UDP port 7 echoes.
//
// A host of the lab is a network namespace and a process, the keeper, that holds a mount and a UTS namespace: there /run is
// fresh, /etc and /usr/local are overlays whose upper layer is in memory, and the host name is the host's own. So every
// host has its own /etc/exabgp/exabgp.conf and /usr/local/bin/exazk while nothing is written to those of the machine, and
// what is mounted is gone with the last process. No address of the lab exists outside the namespaces.
//
// The directory of a lab holds its description (lab.json), and for each host the logs of its daemons and their process ids.
// With it, another process can Open a lab, look at it, break it and take it Down. Processes belong to a lab by their
// network namespace; Down ends those and no others.
//
// The methods of Lab and Host may be called from several goroutines, except that Up, Down, and two calls about the same
// daemon of the same host must not overlap.
package lab
