"""One per host: bridges, taps, DHCP namespaces with dnsmasq, metadata proxies."""
