import type { Session } from "@supabase/supabase-js";
import { Link, useNavigate } from "@tanstack/react-router";
import { CircleUser, LogOut, Settings } from "lucide-react";
import type { ReactNode } from "react";
import { signOut } from "@/features/auth/sign-out";
import { LinkBadge } from "@/features/live/link-badge";
import { LiveProvider } from "@/features/live/live";
import { SearchField } from "@/features/search/search-field";
import { DropAnywhere } from "@/features/uploads/drop-anywhere";
import { addFiles } from "@/features/uploads/manager";
import { UploadButton } from "@/features/uploads/upload-button";
import { UploadTray } from "@/features/uploads/upload-tray";
import { Button } from "./button";
import { Logo } from "./logo";
import { Menu, MenuItem, MenuSeparator } from "./menu";
import { toast } from "./toast";

/** What is around every page of somebody who is signed in. */
export function AppShell({ session, children }: { session: Session; children: ReactNode }) {
  const navigate = useNavigate();
  const userId = session.user.id;
  const leave = async () => {
    try {
      if (await signOut("local")) await navigate({ to: "/login" });
    } catch (error) {
      toast.problem("Signing out did not succeed", error);
    }
  };
  return (
    <LiveProvider userId={userId}>
      <a
        href="#content"
        className="sr-only z-50 rounded-lg bg-accent px-4 py-2 text-accent-ink focus:not-sr-only focus:fixed focus:top-2 focus:left-2"
      >
        To the content
      </a>
      <header className="sticky top-0 z-20 border-line border-b bg-canvas/90 backdrop-blur">
        <div className="mx-auto flex h-16 max-w-6xl items-center gap-3 px-4 sm:px-6">
          <Link to="/dashboard" aria-label="Echo, my videos" className="flex rounded-lg">
            <Logo />
          </Link>
          <div className="flex-1" />
          <SearchField />
          <LinkBadge />
          <UploadButton variant="primary" label="Upload videos" onFiles={(files) => addFiles(files, userId)}>
            <span className="max-sm:hidden">Upload</span>
          </UploadButton>
          <Menu
            label="Account"
            trigger={
              <Button variant="ghost" size="icon" aria-label="Account">
                <CircleUser className="size-5!" />
              </Button>
            }
          >
            <p className="max-w-64 truncate px-3 py-2 text-muted text-xs">{session.user.email}</p>
            <MenuItem onSelect={() => void navigate({ to: "/settings" })}>
              <Settings /> Settings
            </MenuItem>
            <MenuSeparator />
            <MenuItem onSelect={() => void leave()}>
              <LogOut /> Sign out
            </MenuItem>
          </Menu>
        </div>
      </header>
      <main id="content" tabIndex={-1} className="mx-auto max-w-6xl px-4 pt-6 pb-40 outline-none sm:px-6">
        {children}
      </main>
      <UploadTray />
      <DropAnywhere userId={userId} />
    </LiveProvider>
  );
}
