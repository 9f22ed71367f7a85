"""Several hosts on one machine for end-to-end tests: the fixture `testbed`, on top of `cirra-deploy up --hosts`."""
