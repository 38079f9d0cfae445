module kiln.local/registry-login

go 1.26
