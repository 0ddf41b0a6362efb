// Package metrics tells Prometheus what a node does: as what it announces which VIP and why, how its neighbors, ZooKeeper and
// checks are, and how long it takes from an event to the acknowledged command.
//
// It is told by others, and never asks: the loop calls Observe and EventWaited, the checks Ran, exabgp's Process Command. Each
// takes a moment's lock and no more. What is a state is made of the newest Snapshot when somebody scrapes, so a node with many
// VIPs pays for that only then, and what left the configuration is gone from the next scrape on.
//
// Label values are those of the configuration (services, VIPs, checks), closed sets of words, and the neighbors that ExaBGP
// has. Nothing that was read from ZooKeeper or said by a check is one: whoever may write there could make any number of series.
//
// Names and labels are an interface: alert rules and dashboards of other people go by them. See configs/prometheus and
// configs/grafana for ours.
package metrics
