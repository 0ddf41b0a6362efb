module exazk

go 1.26
