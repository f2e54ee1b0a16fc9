"""`python -m agents.fly`."""

from agents.fly import main

if __name__ == "__main__":
    main()
