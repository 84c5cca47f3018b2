module my-transform

go 1.24
