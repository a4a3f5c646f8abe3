"""`python -m qanat` is the command `qanat`."""

from qanat._cli.main import main

if __name__ == "__main__":
    main()
