// Package e2e plays scenarios on the lab of package exazk/vagrant/lab: real ExaBGP, ZooKeeper and BIRD in network
// namespaces, and a client that sends a numbered datagram to each VIP every 5 ms. It holds tests only. Every scenario is played
// on ExaBGP 4.2.21 and on ExaBGP 5, in two labs side by side.
//
// A scenario starts in the steady state and ends in it. What it asserts is read from the routers' tables and from the
// client's losses, and from a log only where the matter is what an operator is told. Each acts in one or more phases, and each
// phase has a bound: how long the client may miss one VIP, which for everything planned is not at all. What was measured is
// printed as a table at the end:
//
//	go test -v ./vagrant/e2e
//	go test -v ./vagrant/e2e -run 'TestTOML/ExaBGP_5/check'
//	go test -v ./vagrant/e2e -run 'TestTOML//check'
//
// It needs root and the programs of the lab, and is skipped with the reason where they are missing; what is on ExaBGP 5 also
// where only that is. When a scenario fails, the routers' tables, the tree in ZooKeeper and the ends of the logs are in its output,
// the logs in full in the directory given by -artifacts and -outputdir, and the lab is built anew for the next one.
package e2e
