"""The EC2 and OpenStack metadata trees for cloud-init, reached through a proxy on each host."""
